#!/bin/sh
# Makes a clone ready to run: .venv (Python 3.13) and node_modules (Azurite), exactly as locked.
# The rule: a step runs only when what it is made from has changed, and is stamped only after it has succeeded.
# --with-browser: the tests' browser too.
# Nothing is written outside the checkout but the caches of uv and npm.
set -eu
cd "$(dirname "$0")/.."

UV_VERSION=0.13.8 # installed into .local/tools where there is no uv on PATH
PYTHON_VERSION=3.13
NODE_MAJOR=20

# A company's own certificate authority is in the system's store, which uv, npm and pip do not read by themselves.
CA=/etc/ssl/certs/ca-certificates.crt
if [ -s "$CA" ]; then
  export SSL_CERT_FILE="${SSL_CERT_FILE:-$CA}" NODE_EXTRA_CA_CERTS="${NODE_EXTRA_CA_CERTS:-$CA}" PIP_CERT="${PIP_CERT:-$CA}"
fi

say() { echo "tollgate: $*" >&2; }
fail() { say "$*"; exit 1; }

# ---- what the system must provide -----------------------------------------------------------------------------------

runs() { "$@" >/dev/null 2>&1; }
on_debian() { [ -e /etc/debian_version ] && command -v apt-get >/dev/null; }

have_git() { runs git --version; }
have_make() { runs make --version; }
have_node() { runs node -e "process.exit(parseInt(process.versions.node) < $NODE_MAJOR ? 1 : 0)"; }
have_npm() { runs npm --version; }
have_uv() { runs uv --version || runs .local/tools/bin/uv --version; }
have_browser() {
  runs chromium --version || runs chromium-browser --version || runs google-chrome --version ||
    [ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]
}
have_python() { have_uv || runs python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))'; }

# need <test> <what it is> <its Debian packages> <where else to get it>
need() {
  if "$1"; then return; fi
  # shellcheck disable=SC2086 # the packages are words
  if on_debian && [ "$(id -u)" = 0 ]; then
    say "installing $2 (apt-get install $3) ..."
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $3; } >&2 || true
    if "$1"; then return; fi
  elif on_debian; then
    fail "$2 is missing. Install it with: sudo apt-get install $3 (or $4), then run this again."
  fi
  fail "$2 is missing. Install it: $4, then run this again."
}

system() {
  need have_git "git" git "https://git-scm.com/downloads or: brew install git"
  need have_make "make" make "brew install make"
  need have_node "Node.js $NODE_MAJOR or newer" nodejs "https://nodejs.org/en/download or: brew install node"
  need have_npm "npm" npm "it comes with Node.js: https://nodejs.org/en/download"
  need have_python "Python 3.9 or newer with venv" "python3 python3-venv" \
    "https://www.python.org/downloads, or uv alone: https://docs.astral.sh/uv/getting-started/installation"
}

# ---- steps and their stamps -----------------------------------------------------------------------------------------

# step <stamp file> <command> <inputs...>: run the command unless the stamp holds the inputs' hashes
step() {
  stamp=$1 command=$2
  shift 2
  inputs=$(git hash-object --no-filters "$@")
  if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$inputs" ]; then return; fi
  rm -f "$stamp"
  "$command"
  echo "$inputs" >"$stamp"
}

quiet() { if [ -t 2 ]; then echo "$1"; else echo "$2"; fi; } # a terminal sees the tools' own progress

# ---- Python ---------------------------------------------------------------------------------------------------------

find_uv() {
  if runs uv --version; then UV=uv; return; fi
  UV=.local/tools/bin/uv
  if runs "$UV" --version; then return; fi
  say "installing uv $UV_VERSION into .local/tools ..."
  python3 -m venv --clear .local/tools
  .local/tools/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --only-binary :all: \
    "uv==$UV_VERSION" >&2
}

is_right_python() { runs "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$PYTHON_VERSION')"; }

# A command named python3.13 may be a pyenv shim that fails, which makes uv look no further: try each, take one that runs.
find_python() {
  for candidate in \
    "$(command -v "python$PYTHON_VERSION" || true)" \
    "$(command -v python3 || true)" \
    "${PYENV_ROOT:-$HOME/.pyenv}/versions/$PYTHON_VERSION"*/bin/python3 \
    "${XDG_DATA_HOME:-$HOME/.local/share}/uv/python/cpython-$PYTHON_VERSION"*/bin/python3 \
    "/usr/local/bin/python$PYTHON_VERSION" "/usr/bin/python$PYTHON_VERSION" \
    "/opt/homebrew/bin/python$PYTHON_VERSION" \
    ".local/python/cpython-$PYTHON_VERSION"*/bin/python3; do
    if is_right_python "$candidate"; then PYTHON=$candidate; return; fi
  done
  say "no Python $PYTHON_VERSION that runs was found: fetching one into .local/python ..."
  export UV_PYTHON_INSTALL_DIR="$PWD/.local/python"
  "$UV" python install --no-bin "$PYTHON_VERSION" >&2 ||
    fail "Python $PYTHON_VERSION could not be fetched. Install it (https://www.python.org/downloads), then run this again."
  PYTHON=$("$UV" python find --managed-python "$PYTHON_VERSION")
}

install_python() {
  find_uv
  if ! is_right_python .venv/bin/python; then
    find_python
    say "creating .venv with $PYTHON ..."
    rm -rf .venv
    "$UV" venv --quiet --no-project --python "$PYTHON" .venv >&2
  fi
  say "installing Python packages (about 10 s with empty caches) ..."
  "$UV" pip sync "$(quiet --color=auto --quiet)" --python .venv/bin/python --require-hashes --compile-bytecode \
    requirements.txt requirements-dev.txt >&2
}

# ---- Node -----------------------------------------------------------------------------------------------------------

install_node() {
  say "installing Azurite (about 20 s with an empty cache) ..."
  npm ci --ignore-scripts --no-update-notifier --loglevel=error "$(quiet --progress --no-progress)" >&2
}

mkdir -p .local
if ! { [ -x .venv/bin/python ] && is_right_python .venv/bin/python; }; then rm -f .venv/tollgate.stamp; fi
system
if [ "${1:-}" = --with-browser ]; then
  need have_browser "Chromium, which the dashboard is tested in," chromium "https://www.google.com/chrome or: brew install --cask google-chrome"
fi
step .venv/tollgate.stamp install_python requirements.txt requirements-dev.txt
step node_modules/tollgate.stamp install_node package.json package-lock.json .npmrc
