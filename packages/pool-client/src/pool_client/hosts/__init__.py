"""The hosts of a pool and their workers: started, watched, replaced, given up."""
