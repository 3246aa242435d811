#!/usr/bin/env bash
# Writes gen from the contracts of a clone that is set up: `./generate.sh`, by the Go on the PATH. WEFT names the clone
# where this folder has been copied out of it. Arguments name the contracts that are wanted, `weft/orders`; none: all.
# The hash in gen/contract.go tells the services which contracts those are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
weft=${WEFT:-../../..}
bin=$weft/.venv/bin
[[ -x $bin/buf ]] || { echo "generate.sh: $weft is no clone of Weft that is set up: name it in WEFT, run \`make setup\` there" >&2; exit 1; }
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
go build -o "$plugins/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
paths=(--path weft/options --path buf/validate)
for path in "${@:-weft}"; do paths+=(--path "$path"); done
rm -rf gen
PATH=$plugins:$PATH "$bin/buf" generate "$weft/protos/gen/contracts.binpb#format=binpb" --template buf.gen.yaml "${paths[@]}"
cat >gen/contract.go <<CODE
// Package gen says which contracts the code below it was made of.
package gen

// Contract is their hash.
const Contract = "$("$bin/python" -c 'from weft_protos import consumer; print(consumer.contract_hash())')"
CODE
