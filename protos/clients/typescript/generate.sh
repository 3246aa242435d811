#!/usr/bin/env bash
# Writes src/gen from the contracts of this clone: `npm run generate`. The hash tells the services which contracts those are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bin=../../../.venv/bin
rm -rf src/gen
"$bin/buf" generate --template buf.gen.yaml
echo "export const contract = \"$("$bin/python" -c 'from weft_protos import consumer; print(consumer.contract_hash())')\";" >src/gen/contract.ts
