"""What administrators install: the wheel, `make install`, and the Debian package."""
