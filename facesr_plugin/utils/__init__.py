"""Helpers without knowledge of networks: files, options, images, resume bookkeeping."""
