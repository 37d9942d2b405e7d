"""Runs in, a page out that sets every number of the paper beside the measured one."""
