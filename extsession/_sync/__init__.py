"""The synchronous controllers.

What may live here: waiting in threads. What is decided while waiting is the engine's.
"""
