// Azure Data Explorer, where analysis goes beyond the ledger: a cluster, a database, and in it what queries/ defines.
param location string
param tags object
param token string
param size string
param privateNetwork bool
param identityClientId string
param workspaceId string

var sizes = {
  small: { name: 'Dev(No SLA)_Standard_E2a_v4', tier: 'Basic', capacity: 1 }
  medium: { name: 'Standard_E2ads_v5', tier: 'Standard', capacity: 2 }
  large: { name: 'Standard_E4ads_v5', tier: 'Standard', capacity: 2 }
}

resource cluster 'Microsoft.Kusto/clusters@2024-04-13' = {
  name: 'adx${token}'
  location: location
  tags: tags
  sku: sizes[size]
  identity: { type: 'SystemAssigned' }
  properties: {
    enableAutoStop: false // a stopped cluster takes no records: they would wait in the outbox
    enableDiskEncryption: true
    enableStreamingIngest: true
    publicNetworkAccess: privateNetwork ? 'Disabled' : 'Enabled'
  }
}

resource database 'Microsoft.Kusto/clusters/databases@2024-04-13' = {
  parent: cluster
  name: 'tollgate'
  location: location
  kind: 'ReadWrite'
  properties: { softDeletePeriod: 'P365D', hotCachePeriod: 'P31D' }
}

resource tables 'Microsoft.Kusto/clusters/databases/scripts@2024-04-13' = {
  parent: database
  name: 'tables'
  properties: { scriptContent: loadTextContent('../queries/tables.kql'), continueOnErrors: false }
}

resource views 'Microsoft.Kusto/clusters/databases/scripts@2024-04-13' = {
  parent: database
  name: 'views'
  properties: { scriptContent: loadTextContent('../queries/views.kql'), continueOnErrors: false }
  dependsOn: [tables]
}

resource functions 'Microsoft.Kusto/clusters/databases/scripts@2024-04-13' = {
  parent: database
  name: 'functions'
  properties: { scriptContent: loadTextContent('../queries/functions.kql'), continueOnErrors: false }
  dependsOn: [views]
}

// Data Explorer has roles of its own, given to the application (client) id. Why each is in docs/deploying.md. A cluster refuses
// to be changed in two ways at once, so one comes after the other.
@batchSize(1)
resource roles 'Microsoft.Kusto/clusters/databases/principalAssignments@2024-04-13' = [
  for role in ['Ingestor', 'Viewer']: {
    parent: database
    name: 'tollgate-${toLower(role)}'
    properties: {
      principalId: identityClientId
      principalType: 'App'
      role: role
      tenantId: tenant().tenantId
    }
    dependsOn: [functions]
  }
]

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: cluster
  name: 'to-log-analytics'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'FailedIngestion', enabled: true }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output id string = cluster.id
output uri string = cluster.properties.uri
output database string = database.name
