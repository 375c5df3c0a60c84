"""``pool-client check HOST…``: is a host fit for a pool, and if not, what is to be done?"""
