"""The only room that knows where results lie. Every file is written whole, and covered by a checksum.

    STORE/
      train/<digest>/  cell.json  weights.safetensors  history.csv  done.json | failed.json  checkpoint.pt  sanity.json
      eval/<digest>/   counts.npz  images/<index>.npz  record.json | failed.json  traceback.txt
      matrices/<name>.json        what a matrix asked for
      reports/<name>/             what was rendered from it
      crash-<date>.txt            traceback of a command that broke
      cache/                      checks that passed, unfinished sweeps, what runs now, slurm/<array>/,
                                  what reports were made of

A folder of `train` is complete once it has done.json, one of `eval` once it has record.json; both are written last and
hold the hashes of the files beside them. JSON files carry a checksum of their content and of their place in the store,
unfinished work one behind its bytes (but not the course of an unfinished training); SHA256SUMS has those of a report. A
checksum is compared whenever a file is read, and the scores of a record with its counts. Files of segbench 0.1 have no
checksums: `unsealed` names them. `segbench.store.verify` reads everything; `segbench.store.whole` remembers for a run
what was found whole, and `segbench.store.rendered` what a report was made of.
"""

from segbench.store.store import Store

__all__ = ["Store"]
