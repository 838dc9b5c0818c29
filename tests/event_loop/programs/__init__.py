"""Programs as people write them, on `EventLoop`: real servers, clients, databases and processes."""
