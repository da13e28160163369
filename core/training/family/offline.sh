#!/bin/sh
# Train the family on a machine with a GPU and without a network:
#   sh core/training/family/offline.sh WHEELS OUT [MINUTES] [more arguments of `videoldm train family`]
# WHEELS: a folder of wheels to install, such as diffusers and av. OUT: the folder of the results, six
# files. To continue a run, unpack training.tgz beside its other results in DIR and pass --from DIR.
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
# The results so far are copied even if the training fails or times out.
PYTHONPATH="$work/path" PYTHONUNBUFFERED=1 timeout $((${minutes%.*} * 60 + 30)) \
  python3 -m videoldm.nodes.headless train family --minutes "$minutes" --device cuda \
  --threads 4 --output "$work/run" "$@" 2>&1 | tee "$work/log.txt"
cp "$work"/run/weights/*.safetensors "$out"
mkdir -p "$work/run/logs"
cp "$work/log.txt" "$work/run/logs"
tar -czf "$out/training.tgz" -C "$work/run" logs curves.svg progress.json -C weights tokenizer
ls -l "$out"
