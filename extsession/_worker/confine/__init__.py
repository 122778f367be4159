"""The walls of an isolated session: what a process does to itself so that code in it cannot do harm. Linux only.

Loaded only where isolation is asked for. `namespaces` makes a world of its own for a template (the *base*) and for each
session, `lockdown` takes the rights away: capabilities, Landlock (`landlock`), limits, system calls (`seccomp`), in this
order, last of all. `probe` tries the whole in a throwaway process and says what this host allows. `libc` is the one
way to the kernel, `syscalls` its numbers, `policy` says what of it a session may call.
"""
