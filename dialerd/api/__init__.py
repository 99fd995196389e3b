"""The Campaigns REST and SSE API, on aiohttp."""
