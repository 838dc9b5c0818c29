"""Measures `EventLoop` against other event loops: `just bench-io`. README.md tells what and how."""
