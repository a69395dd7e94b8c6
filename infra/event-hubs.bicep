// Event Hubs, where they carry the records. Partitions cannot be made fewer, nor on the Standard tier more: they bound how
// many instances record side by side. Seven days are kept: the longest outage of the recorder that loses nothing.
param location string
param tags object
param token string
param size string
param privateNetwork bool
param workspaceId string

var sizes = {
  small: { units: 1, mostUnits: 2, partitions: 4 }
  medium: { units: 1, mostUnits: 4, partitions: 4 }
  large: { units: 2, mostUnits: 10, partitions: 16 }
}

resource namespace 'Microsoft.EventHub/namespaces@2024-01-01' = {
  name: 'evhns-tollgate-${token}'
  location: location
  tags: tags
  sku: { name: 'Standard', tier: 'Standard', capacity: sizes[size].units }
  properties: {
    isAutoInflateEnabled: true
    maximumThroughputUnits: sizes[size].mostUnits
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: privateNetwork ? 'Disabled' : 'Enabled'
  }
}

resource hub 'Microsoft.EventHub/namespaces/eventhubs@2024-01-01' = {
  parent: namespace
  name: 'calls'
  properties: { messageRetentionInDays: 7, partitionCount: sizes[size].partitions }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: namespace
  name: 'to-log-analytics'
  properties: {
    workspaceId: workspaceId
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

output id string = namespace.id
output name string = namespace.name
output hubName string = hub.name
output host string = '${namespace.name}.servicebus.windows.net'
