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
az account show --output none || { echo "sign in to the Azure CLI, then run infra/upload-configuration.sh and azd deploy" >&2 && exit 1; }
for pause in ${TOLLGATE_UPLOAD_PAUSES:-15 30 60 120} last; do # a role that was just given may take minutes to hold
  az storage blob upload --auth-mode login --overwrite --only-show-errors --output none \
    --account-name "$TOLLGATE_STORAGE_ACCOUNT" --container-name "$TOLLGATE_CONFIG_CONTAINER" \
    --name tollgate.toml --file tollgate.toml && exit
  [ "$pause" = last ] || { echo "trying again in $pause s" >&2 && sleep "$pause"; }
done
echo "tollgate.toml is not uploaded: run infra/upload-configuration.sh where the account can be reached, then azd deploy" >&2
exit 1
