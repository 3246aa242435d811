#!/usr/bin/env bash
# Writes src/gen from the contracts of a clone that is set up: `npm run generate`. WEFT names the clone where this folder
# has been copied out of it. The hash tells the services which contracts those are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
weft=${WEFT:-../../..}
bin=$weft/.venv/bin
[[ -x $bin/buf ]] || { echo "generate.sh: $weft is no clone of Weft that is set up: name it in WEFT, run \`make setup\` there" >&2; exit 1; }
rm -rf src/gen
"$bin/buf" generate "$weft" --template buf.gen.yaml \
  --exclude-type buf.validate.field --exclude-type buf.validate.message --exclude-type buf.validate.oneof \
  --exclude-type google.api.http --exclude-type google.api.field_behavior
echo "export const contract = \"$("$bin/python" -c 'from weft_protos import consumer; print(consumer.contract_hash())')\";" >src/gen/contract.ts
