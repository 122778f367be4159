"""Twisted: the future of a call becomes a Deferred.

The announcement of 2006 promised: "support will be added to get Deferreds".
"""

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import react

from extsession import ExtResults, ExtSession


def deferred(results: ExtResults) -> "Deferred[ExtResults]":
    """A Deferred that fires in the reactor's thread when the call is complete: with its results, or its error."""
    made: Deferred[ExtResults] = Deferred()

    def tell(future) -> None:  # in the thread that takes in the results
        error = future.exception()
        if error is None:
            reactor.callFromThread(made.callback, future.result())
        else:
            reactor.callFromThread(made.errback, error)

    results.future().add_done_callback(tell)
    return made


@inlineCallbacks
def main(_reactor):
    with ExtSession() as session:
        results = yield deferred(session.execute("import time; time.sleep(0.2); print('from the session')"))
        print("stdout:", results.stdout, end="")
        failing = deferred(session.execute("1 / 0"))
        failing.addErrback(lambda failure: print("failed:", failure.value))
        yield failing


react(main)
