"""The API's contract, held against the real application on a real socket with a real store."""
