"""A NumPy array goes into a session and comes back. The large part travels outside of the pickle."""

import numpy as np

from extsession import ExtSession

with ExtSession() as session:
    session["signal"] = np.sin(np.linspace(0, 2 * np.pi, 1_000_000))
    session.execute("import numpy as np; spectrum = np.abs(np.fft.rfft(signal))").wait().raise_for_error()
    spectrum = session["spectrum"]
    print("back:", spectrum.shape, spectrum.dtype)
    print("strongest frequency:", int(spectrum.argmax()))

    # It is a copy. What is done to it here is not seen there.
    spectrum[:] = 0
    print("in the session:", session.eval("int(spectrum.argmax())"))
