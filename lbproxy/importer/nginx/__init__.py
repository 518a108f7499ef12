"""nginx.conf: `file` (text to directives), `main` (the process and `stream`), `upstream` (servers), `http` (probes)."""
