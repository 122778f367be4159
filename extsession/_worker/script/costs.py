"""The cost table `cycles v1` and the fixed bounds. A change of any number here is a new version."""

from __future__ import annotations

VERSION = "cycles v1"

# the text of a script
MAX_SOURCE = 65536  # characters and bytes of a script
MAX_BRACKETS = 60  # brackets inside each other
MAX_CHAIN = 300  # operators in one expression, with all that is around it
MAX_ELIFS = 1000  # elif in a script
MAX_NUMBER = 400  # characters of a number written in the script
MAX_NODES = 20000  # parts (names, numbers, operators, statements, ...) of a script
MAX_DEPTH = 100  # parts inside each other
MAX_EXPANDED = 60000  # parts of a script, where a finally counts once for each way out of its try
MAX_SCOPES = 8  # functions, lambdas and comprehensions inside each other

# one value
MAX_TEXT = 1000000  # characters of a text
MAX_ITEMS = 1000000  # elements of a list, tuple, dict or set
MAX_DIGITS = 4000  # digits of a whole number, where it is multiplied or made a text
MAX_BITS = 13288  # bits of a whole number: 4000 digits
MAX_NESTING = 50  # lists inside each other where they are compared or shown
MAX_KEY_NESTING = 16  # tuples inside each other in a key
MAX_WIDTH = 1000  # width in an f-string
MAX_PRECISION = 100  # digits after the point in an f-string
MAX_MESSAGE = 500  # characters of an error's message

# one run
MAX_CALLS = 200  # functions that call each other, unless the limits say otherwise
MOST_CALLS = 1000  # what the limits may say
MAX_NODES_OUT = 100000  # values in what a run hands over
MAX_TEXT_OUT = 1000000  # characters in what a run hands over
MAX_NODES_IN = 1000000  # values in what is fed in
MAX_DEPTH_OUT = 100  # lists inside each other in what is fed in or handed over

# sizes, as shifts: what is handled costs its size >> shift
TEXT = 6  # a cycle for each 64 characters read, copied or compared
ITEMS = 3  # a cycle for each 8 elements copied
SEARCH = 12  # a cycle for each 4096 comparisons in a search
PRODUCT = 18  # a cycle for each 2**18 of (bits of a number) x (bits of the other)
PRICE = 100  # of an exposed function, unless the host says otherwise

#: what the documentation shows of the above: (what, cost)
TABLE = (
    ("each name, number, text, operator, call, statement and so on that a line is made of", "1"),
    ("each turn of a `for` loop, and each call of a `def` or `lambda`, besides its parts", "1"),
    ("a comprehension: all parts after the first `in`, plus 1, for each element it goes through", "at its start"),
    ("both sides of a conditional expression, `and`, `or`; the rest of a block when an error leaves it", "as if run"),
    ("text that is made, read, compared or searched", "1 for each 64 characters"),
    ("a search in text, besides", "1 for each 4096 of (length of the text) x (length of what is looked for)"),
    ("elements that are copied: slices, `+`, `list()`, `dict()`, `keys()`, ...", "1 for each 8"),
    ("elements that are compared, shown, summed, counted, sorted, made keys, handed to a function", "1 each"),
    (
        "sorting n elements, besides",
        "n x (digits of n in base 2) / 8; lists and long texts: their whole size each time",
    ),
    ("`*`, `//`, `%`, `**`, `pow` of whole numbers over 60 bits", "1 for each 262144 of bits x bits"),
    ("`append`, `insert` and `extend`", "1, plus the elements"),
    ("an exposed function", "its price (100 if the host says nothing), plus 1 for each value in and out"),
)
