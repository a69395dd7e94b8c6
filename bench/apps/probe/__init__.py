"""The gateway, and what its process holds."""
