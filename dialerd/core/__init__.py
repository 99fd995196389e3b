"""The pure core: values in, values out. No I/O, no clock, no asyncio, nothing of ours from outside this package."""
