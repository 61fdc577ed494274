"""The local instance: servers from wheels, kept running by one supervisor.

``folder`` opens the data folder, ``supervisor`` starts, watches and stops what is in it, ``keeper`` keeps
one service running, ``postgres``, ``valkey``, ``programs`` and ``external`` know one kind of service each.
"""
