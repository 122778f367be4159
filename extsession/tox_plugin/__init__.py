"""tox runs the commands of an environment through extsession: `extsession = true` in its configuration.

Lives here: what the hooks do (`hooks`), what the configuration says (`settings`), the executor that tox calls
(`executor`), which commands a warm interpreter can run (`warm`), and all that touches tox's internals (`internals`).
What tox loads is `extsession_tox`. See docs/tox.md.
"""
