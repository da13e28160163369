#!/bin/sh
# The family on a machine with a GPU and without a network:
#   sh core/training/family/offline.sh WHEELS OUT [MINUTES] [more arguments of `videoldm train family`]
# WHEELS: a folder of wheels that are still missing, such as diffusers and av. OUT: the folder of the
# results, six files. A second run goes on from those of a first one in DIR, training.tgz unpacked
# there, with --from DIR.
set -u
wheels=$1 out=$2 minutes=${3:-9}
shift 2
[ $# -gt 0 ] && shift
root=$(cd "$(dirname "$0")/../../.." && pwd)
work=${TMPDIR:-/tmp}/videoldm-family
rm -rf "$work"
mkdir -p "$work/path" "$out"
ln -s "$root" "$work/path/videoldm"
for one in "$wheels"/*.whl; do
  [ -e "$one" ] && python3 -m pip install --quiet --no-index --no-deps "$one"
done
# What is there is handed over even when the training does not come to its end.
PYTHONPATH="$work/path" PYTHONUNBUFFERED=1 timeout $((${minutes%.*} * 60 + 30)) \
  python3 -m videoldm.nodes.headless train family --minutes "$minutes" --device cuda \
  --threads 4 --output "$work/run" "$@" 2>&1 | tee "$work/log.txt"
cp "$work"/run/weights/*.safetensors "$out"
mkdir -p "$work/run/logs"
cp "$work/log.txt" "$work/run/logs"
tar -czf "$out/training.tgz" -C "$work/run" logs curves.svg progress.json -C weights tokenizer
ls -l "$out"
