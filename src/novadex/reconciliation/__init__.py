"""The invariants of an instance, asked of the data itself: what is derived is as the records say, all the time."""
