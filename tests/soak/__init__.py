"""Faults of every kind thrown at loops from many threads, with a ledger that says what became of every call."""
