"""The scheduler: which task goes to which worker, and what becomes of it. No I/O in here."""
