// Tollgate on Azure: a resource group with all it needs. docs/deploying.md explains the parameters, the roles and the sizes.
// Azure OpenAI is not made here: `openAiAccounts` names the resources that the app may call as itself.
targetScope = 'subscription'

@description('Names the resource group and, hashed, everything in it.')
@minLength(1)
@maxLength(40)
param environmentName string

@description('The region. It has to offer Flex Consumption with Python 3.13: az functionapp list-flexconsumption-runtimes.')
param location string

@description('How much is ready: see `sizes` in app.bicep.')
@allowed(['small', 'medium', 'large'])
param size string = 'small'

@description('What carries records from the gateway to the recorder. Event Hubs scales further; the queue costs nothing idle.')
@allowed(['storage-queue', 'event-hubs'])
param transport string = 'storage-queue'

@description('Whether to make an Azure Data Explorer cluster for analysis. It is the one part that costs while idle.')
param dataExplorer bool = false

@description('Whether storage, Event Hubs, Key Vault and Data Explorer can be reached from a virtual network only.')
param privateNetwork bool = false

@description('Address space of that network; its first /24 is the app\'s, its second the private endpoints\'.')
param addressPrefix string = '10.77.0.0/16'

@description('Who may reach the gateway itself: public addresses in CIDR form, resource ids of subnets, service tags. Empty: all.')
param allowedNetworks string[] = []

@description('The id of the one Front Door whose calls are let in. Empty: any caller from allowedNetworks is.')
param frontDoorId string = ''

@description('Resource ids of Azure OpenAI (or Foundry) accounts that upstreams with auth = "identity" name.')
param openAiAccounts string[] = []

@description('The key for everyone\'s usage and /manage. It is kept in Key Vault.')
@secure()
@minLength(20)
param adminKey string

@description('Names of further secrets in Key Vault that become app settings of the same name with _ for -: upstreams\' keys.')
param secretNames string[] = []

@description('Further app settings, such as TOLLGATE_TRUSTED_PROXIES; they win over the ones made here.')
param settings object = {}

@description('Days until a recorded call moves to the cool tier, and until it is deleted; 0 keeps calls for ever.')
param archiveCoolAfterDays int = 30
param archiveDeleteAfterDays int = 0

@description('Where alerts go. Empty: alerts are shown in the portal only, and there is no budget.')
param alertEmail string = ''

@description('Cost of the resource group a month, in the subscription\'s currency, from which an alert is sent; 0: none.')
param monthlyBudget int = 0

@description('The first month of the budget, such as 2026-12-01: this one or a later. Azure refuses to change it later. Empty: no budget.')
param budgetStart string = ''

@description('Who deploys, so that they may upload the configuration and write secrets. Empty: nobody; azd fills it in.')
param principalId string = ''

var tags = { 'azd-env-name': environmentName }
var token = toLower(uniqueString(subscription().id, environmentName, location))
var prefix = 'tollgate'

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'identity.bicep' = {
  scope: group
  name: 'identity'
  params: { location: location, tags: tags, token: token }
}

module monitoring 'monitoring.bicep' = {
  scope: group
  name: 'monitoring'
  params: { location: location, tags: tags, token: token }
}

module network 'network.bicep' = if (privateNetwork) {
  scope: group
  name: 'network'
  params: { location: location, tags: tags, token: token, addressPrefix: addressPrefix }
}

module storage 'storage.bicep' = {
  scope: group
  name: 'storage'
  params: {
    location: location
    tags: tags
    token: token
    prefix: prefix
    privateNetwork: privateNetwork
    coolAfterDays: archiveCoolAfterDays
    deleteAfterDays: archiveDeleteAfterDays
    workspaceId: monitoring.outputs.workspaceId
  }
}

module vault 'vault.bicep' = {
  scope: group
  name: 'vault'
  params: {
    location: location
    tags: tags
    token: token
    privateNetwork: privateNetwork
    adminKey: adminKey
    workspaceId: monitoring.outputs.workspaceId
  }
}

module eventHubs 'event-hubs.bicep' = if (transport == 'event-hubs') {
  scope: group
  name: 'event-hubs'
  params: {
    location: location
    tags: tags
    token: token
    size: size
    privateNetwork: privateNetwork
    workspaceId: monitoring.outputs.workspaceId
  }
}

module explorer 'data-explorer.bicep' = if (dataExplorer) {
  scope: group
  name: 'data-explorer'
  params: {
    location: location
    tags: tags
    token: token
    size: size
    privateNetwork: privateNetwork
    identityClientId: identity.outputs.clientId
    workspaceId: monitoring.outputs.workspaceId
  }
}

module endpoints 'private-endpoints.bicep' = if (privateNetwork) {
  scope: group
  name: 'private-endpoints'
  params: {
    location: location
    tags: tags
    networkId: network!.outputs.id
    subnetId: network!.outputs.endpointsSubnetId
    storageId: storage.outputs.id
    vaultId: vault.outputs.id
    eventHubsId: transport == 'event-hubs' ? eventHubs!.outputs.id : ''
    explorerId: dataExplorer ? explorer!.outputs.id : ''
  }
}

module roles 'roles.bicep' = {
  scope: group
  name: 'roles'
  params: {
    identityPrincipalId: identity.outputs.principalId
    deployerPrincipalId: principalId
    storageName: storage.outputs.name
    configContainer: storage.outputs.configContainer
    vaultName: vault.outputs.name
    insightsName: monitoring.outputs.insightsName
    eventHubsName: transport == 'event-hubs' ? eventHubs!.outputs.name : ''
    hubName: transport == 'event-hubs' ? eventHubs!.outputs.hubName : ''
  }
}

module openAiRoles 'open-ai-role.bicep' = [
  for (account, index) in openAiAccounts: {
    scope: resourceGroup(split(account, '/')[2], split(account, '/')[4])
    name: 'open-ai-${index}-${token}'
    params: { accountName: last(split(account, '/')), identityPrincipalId: identity.outputs.principalId }
  }
]

module app 'app.bicep' = {
  scope: group
  name: 'app'
  params: {
    location: location
    tags: tags
    token: token
    prefix: prefix
    size: size
    transport: transport
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    storageName: storage.outputs.name
    packageContainerUrl: storage.outputs.packageContainerUrl
    configContainer: storage.outputs.configContainer
    vaultUri: vault.outputs.uri
    secretNames: secretNames
    insightsConnectionString: monitoring.outputs.insightsConnectionString
    workspaceId: monitoring.outputs.workspaceId
    eventHubsHost: transport == 'event-hubs' ? eventHubs!.outputs.host : ''
    hubName: transport == 'event-hubs' ? eventHubs!.outputs.hubName : ''
    explorerUri: dataExplorer ? explorer!.outputs.uri : ''
    explorerDatabase: dataExplorer ? explorer!.outputs.database : ''
    subnetId: privateNetwork ? network!.outputs.appSubnetId : ''
    allowedNetworks: allowedNetworks
    frontDoorId: frontDoorId
    settings: settings
  }
  dependsOn: [roles, endpoints]
}

module alerts 'alerts.bicep' = {
  scope: group
  name: 'alerts'
  params: {
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    queueServiceId: storage.outputs.queueServiceId
    email: alertEmail
    monthlyBudget: monthlyBudget
    budgetStart: budgetStart
  }
}

output AZURE_RESOURCE_GROUP string = group.name
output AZURE_KEY_VAULT_NAME string = vault.outputs.name
output TOLLGATE_URL string = app.outputs.url
output TOLLGATE_APP string = app.outputs.name
output TOLLGATE_STORAGE_ACCOUNT string = storage.outputs.name
output TOLLGATE_CONFIG_CONTAINER string = storage.outputs.configContainer
