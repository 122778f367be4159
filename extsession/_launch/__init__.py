"""How a worker comes to be: finds, starts, signals, measures and kills processes.

What may live here: launchers and what they need. A process here knows no session, no call and no message.
"""
