"""The PBX drivers. Each fulfils driver.py, and none knows of another."""
