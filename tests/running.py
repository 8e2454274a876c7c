"How tests start make, papermill and a server of files, and what they read from them."
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURS = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "RECIPE", "SEEDS", "JOBS", "FRESH", "PYTHON", "DRY_RUN", "Z1_DATA",
        "Z1_ROOT"}


def shell():
    "The environment of somebody's shell: nothing of a make that these tests may run within."
    return {k: v for k, v in os.environ.items() if k not in OURS}


def notebooks(said):
    "The notebooks that make says it has run."
    return re.findall(r"^((?:exp|fig|tab)_\S+)$", said, re.M)


def experiment(name):
    "The notebook of that name, whichever folder it is in."
    return next((ROOT/"nbs"/"experiments").glob(f"*/{name}.ipynb"))


def papermill(notebook, written, **parameters):
    "Run an experiment; its last words if it failed, and what it printed."
    words = [w for k, v in parameters.items() for w in ("-y", json.dumps({k: v}))]
    done = subprocess.run([sys.executable, "-m", "papermill", "--no-progress-bar", str(experiment(notebook)),
                           str(written), *words], env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
                          capture_output=True, text=True)
    cells = json.loads(Path(written).read_text())["cells"]
    error = (done.stderr[-2000:] or "failed without a word") if done.returncode else ""
    return error, "".join(t for c in cells for o in c.get("outputs", ()) for t in o.get("text", ()))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *said): pass


@contextmanager
def serve(folder):
    "A web server of a folder's files; its address."
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
