// The function app, on a Flex Consumption plan of its own: gateway, recorder and rollup, each scaled by itself.
param location string
param tags object
param token string
param prefix string
param size string
param transport string
param identityId string
param identityClientId string
param storageName string
param packageContainerUrl string
param configContainer string
param vaultUri string
param secretNames string[]
param insightsConnectionString string
param workspaceId string
@description('Empty: the storage queue is the transport.')
param eventHubsHost string
param hubName string
@description('Empty: no Data Explorer.')
param explorerUri string
param explorerDatabase string
@description('Empty: no virtual network.')
param subnetId string
param allowedNetworks string[]
param frontDoorId string
param settings object

// `concurrency`: calls that one instance serves side by side. It has to be said: for Python the platform's default is one, an
// instance per open stream. Instances have 2 GB and one core; docs/scaling.md has what a core serves.
var sizes = {
  small: { gatewaysReady: 0, recordersReady: 0, mostInstances: 40, concurrency: 100 }
  medium: { gatewaysReady: 1, recordersReady: 0, mostInstances: 40, concurrency: 100 }
  large: { gatewaysReady: 2, recordersReady: 1, mostInstances: 200, concurrency: 100 }
}
var recorder = transport == 'event-hubs' ? 'record_hub' : 'record_queue'
var alwaysReady = filter(
  [
    { name: 'http', instanceCount: sizes[size].gatewaysReady }
    { name: 'function:${recorder}', instanceCount: sizes[size].recordersReady }
  ],
  each => each.instanceCount > 0
)

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: 'plan-tollgate-${token}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  name: 'func-tollgate-${token}'
  location: location
  tags: union(tags, { 'azd-service-name': 'gateway' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
      http20Enabled: true
      ipSecurityRestrictionsDefaultAction: empty(allowedNetworks) ? 'Allow' : 'Deny'
      ipSecurityRestrictions: [
        for (network, index) in allowedNetworks: {
          name: 'allowed-${index}'
          action: 'Allow'
          ipAddress: contains(network, '/subnets/') ? null : network
          tag: contains(network, '/') ? 'Default' : 'ServiceTag'
          vnetSubnetResourceId: contains(network, '/subnets/') ? network : null
          headers: empty(frontDoorId) ? null : { 'x-azure-fdid': [frontDoorId] }
          priority: 100 + index
        }
      ]
    }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainerUrl
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
      runtime: { name: 'python', version: '3.13' }
      scaleAndConcurrency: {
        instanceMemoryMB: 2048
        maximumInstanceCount: sizes[size].mostInstances
        alwaysReady: alwaysReady
        triggers: { http: { perInstanceConcurrency: sizes[size].concurrency } }
      }
    }
  }
}

// Names with two underscores are the conventions of Functions for connections by identity: the host's triggers read them, and
// the app reads the same ones. AZURE_CLIENT_ID tells the Azure SDKs which identity is meant.
var always = {
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
  APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnectionString
  AZURE_CLIENT_ID: identityClientId
  AzureWebJobsDisableHomepage: 'true'
  AzureWebJobsStorage__accountName: storageName
  AzureWebJobsStorage__clientId: identityClientId
  AzureWebJobsStorage__credential: 'managedidentity'
  TOLLGATE_ADMIN_KEY: '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/tollgate-admin-key)'
  TOLLGATE_CONFIG: 'blob:${configContainer}/tollgate.toml'
  TOLLGATE_PREFIX: prefix
  TOLLGATE_TRANSPORT: transport
}
var ofEventHubs = {
  TOLLGATE_EVENT_HUB_NAME: hubName
  TOLLGATE_EVENT_HUB__clientId: identityClientId
  TOLLGATE_EVENT_HUB__credential: 'managedidentity'
  TOLLGATE_EVENT_HUB__fullyQualifiedNamespace: eventHubsHost
}
var ofExplorer = {
  TOLLGATE_KUSTO_DATABASE: explorerDatabase
  TOLLGATE_KUSTO_URI: explorerUri
}
var ofSecrets = toObject(
  secretNames,
  name => toUpper(replace(name, '-', '_')),
  name => '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/${name})'
)

resource appSettings 'Microsoft.Web/sites/config@2024-11-01' = {
  parent: app
  name: 'appsettings'
  properties: union(
    always,
    empty(eventHubsHost) ? {} : ofEventHubs,
    empty(explorerUri) ? {} : ofExplorer,
    ofSecrets,
    settings
  )
}

resource noFtpPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}

resource noScmPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-11-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: app
  name: 'to-log-analytics'
  properties: {
    workspaceId: workspaceId
    metrics: [{ category: 'AllMetrics', enabled: true }] // logs come by Application Insights
  }
}

output name string = app.name
output url string = 'https://${app.properties.defaultHostName}'
