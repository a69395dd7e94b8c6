#!/bin/sh
# Uploads tollgate.toml to where TOLLGATE_CONFIG looks for it; the app reads it again within TOLLGATE_REFRESH_S.
# `azd up` runs this after it has made the storage account. With private networking run it from within the network.
set -eu
cd "$(dirname "$0")/.."
: "${TOLLGATE_STORAGE_ACCOUNT:?run this by azd, or set TOLLGATE_STORAGE_ACCOUNT and TOLLGATE_CONFIG_CONTAINER}"
if [ ! -f tollgate.toml ]; then
  echo "no tollgate.toml here yet: write one (docs/deploying.md), then run infra/upload-configuration.sh" >&2
  exit 0
fi
exec az storage blob upload --auth-mode login --overwrite --only-show-errors --output none \
  --account-name "$TOLLGATE_STORAGE_ACCOUNT" --container-name "$TOLLGATE_CONFIG_CONTAINER" \
  --name tollgate.toml --file tollgate.toml
