"""What runs inside of programs, in their own languages: they take a call's source in one piece, encoded as one line.

So what the code reads is never the rest of its own source, blocks and blank lines mean what they mean in a file,
source that is not complete is an error at once, and no line is too long for a terminal. Before the code runs, its
start marker is printed; the prompt after it is of this call alone and has its status.
"""

from __future__ import annotations

from typing import Final

#: CPython 2.7 and 3: `sys.modules["__extsession__"]`. Executed by -c, in a scope of its own.
PYTHON: Final = r'''
import __future__, __main__, ast, binascii, codecs, signal, sys, types
class Prompt(object):
    tag, status = "", 0
    def __str__(self):
        return "%s:%d:" % (self.tag, self.status)
prompt, pieces = Prompt(), []
features = flags = 0
for name in __future__.all_feature_names:
    features |= getattr(__future__, name).compiler_flag
def run(text, tag="", start=""):
    global flags
    pieces.append(text)
    if not tag:
        return
    source = codecs.BOM_UTF8 + binascii.a2b_base64("".join(pieces))
    del pieces[:]
    prompt.tag, prompt.status = tag, 1
    sys.ps1, sys.ps2 = prompt, ""  # should Ctrl-C come in between
    try:
        sys.stdout.flush()
        sys.__stdout__.write(start)
        sys.__stdout__.flush()
        body = compile(source, "<stdin>", "exec", ast.PyCF_ONLY_AST | flags, True).body
        for node in body:
            code = compile(ast.Interactive([node]), "<stdin>", "single", flags, True)
            flags |= code.co_flags & features
            eval(code, __main__.__dict__)
        prompt.status = 0
    except SystemExit:
        raise
    except BaseException:
        kind, value, trace = sys.exc_info()
        trace = trace.tb_next  # without this frame
        if hasattr(value, "with_traceback"):
            value = value.with_traceback(trace)
        sys.last_type, sys.last_value, sys.last_traceback = kind, value, trace
        sys.excepthook(kind, value, trace)
    sys.ps1, sys.ps2 = prompt, ""  # whatever the code has made of them
    sys.stdout.flush()
    try:  # what was typed for the code, and not read, is no source
        import termios
        termios.tcflush(0, termios.TCIFLUSH)
    except Exception:
        pass
# CPython looks for signals between bytecodes: a Ctrl-C after its last look, and before the system call that the code
# blocks in, is seen when that returns. This signal, which is ignored by default, makes it return.
if signal.getsignal(signal.SIGURG) == signal.SIG_DFL:
    signal.signal(signal.SIGURG, lambda *_: None)
module = types.ModuleType("__extsession__")
module.run = run
sys.modules["__extsession__"] = module
sys.__dict__.pop("__interactivehook__", None)
sys.argv[:] = [""]
sys.ps1 = sys.ps2 = ""
'''

#: Node.js: a REPL whose evaluation takes "+" and a piece of base64, or "=", tag, start marker and the last piece
NODE: Final = r"""
const repl = require("repl").start({
  prompt: "", terminal: false, useColors: false, ignoreUndefined: true, breakEvalOnSigint: true,
});
const inner = repl.eval;
let pieces = "";
let awaits = false;
// While code runs, the interpreter watches for SIGINT itself, but not where there is a handler: that is for what is
// awaited, and for the prompt, where SIGINT would end the process.
const on_interrupt = () => { if (awaits) repl.emit("SIGINT"); };
process.on("SIGINT", on_interrupt);
repl.eval = function (line, context, file, done) {
  const words = line.trim().split(" ");
  if (words[0] !== "=") {
    pieces += words[1];
    return done(null);
  }
  const source = Buffer.from(pieces + (words[3] || ""), "base64").toString("utf8");
  pieces = "";
  process.stdout.write(words[2]);
  repl.setPrompt(words[1] + ":1:");  // an exception goes past the callback, to the REPL's domain
  process.removeListener("SIGINT", on_interrupt);
  awaits = true;
  try {
    inner.call(this, source + "\n", context, "REPL", (error, value) => {
      awaits = false;
      if (error && error.err && error.constructor && error.constructor.name === "Recoverable") error = error.err;
      if (!error) repl.setPrompt(words[1] + ":0:");
      done(error, value);
    });
  } finally {
    process.on("SIGINT", on_interrupt);
  }
};
"""

#: bash: `__extsession TAG START [STATUS]` begins a call, and without START it ends one. It keeps `$?`. The end is told
#: by itself, and by the prompt where Ctrl-C has taken the rest of the line: after an open quote in `eval`, bash 5 shows
#: the last prompt again that it has made
BASH: Final = (
    "stty -echo -onlcr 2>/dev/null; set +H +o history; unset HISTFILE PROMPT_COMMAND; PS1= PS2=; "
    '__extsession() { local s=${3-$?} x; PS1="$1:\\$?:"; if [[ $2 ]]; then builtin printf %s "$2"; else '
    "while builtin read -t 0; do IFS= builtin read -r x || break; done; "  # typed for the code, and not read
    "unset __extsession_s __extsession_x; "
    'builtin printf %s "$1:$s:"; fi; '
    "case $- in *e*) s=0; esac; return $s; }"  # after set -e, to return it would end the shell
)
