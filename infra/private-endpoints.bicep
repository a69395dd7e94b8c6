// A private endpoint, and the names it is found by, for each service that the app uses. Data Explorer takes queued records
// through storage accounts of its own, so its endpoint answers for their names too.
param location string
param tags object
param networkId string
param subnetId string
param storageId string
param vaultId string
param eventHubsId string
param explorerId string

var suffix = environment().suffixes.storage
var ofStorage = ['privatelink.blob.${suffix}', 'privatelink.queue.${suffix}', 'privatelink.table.${suffix}']
var all = [
  { name: 'blob', id: storageId, zones: [ofStorage[0]] }
  { name: 'queue', id: storageId, zones: [ofStorage[1]] }
  { name: 'table', id: storageId, zones: [ofStorage[2]] }
  { name: 'vault', id: vaultId, zones: ['privatelink.vaultcore.azure.net'] }
  { name: 'namespace', id: eventHubsId, zones: ['privatelink.servicebus.windows.net'] }
  { name: 'cluster', id: explorerId, zones: concat(['privatelink.${location}.kusto.windows.net'], ofStorage) }
]
var wanted = filter(all, each => !empty(each.id))
var zoneNames = union(flatten(map(wanted, each => each.zones)), [])

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for name in zoneNames: {
    name: name
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (name, index) in zoneNames: {
    parent: zones[index]
    name: 'tollgate'
    location: 'global'
    properties: { registrationEnabled: false, virtualNetwork: { id: networkId } }
  }
]

// One after the other: a storage account takes one new connection at a time.
@batchSize(1)
resource endpoints 'Microsoft.Network/privateEndpoints@2024-05-01' = [
  for each in wanted: {
    name: 'pe-tollgate-${each.name}'
    location: location
    tags: tags
    properties: {
      subnet: { id: subnetId }
      privateLinkServiceConnections: [
        { name: each.name, properties: { privateLinkServiceId: each.id, groupIds: [each.name] } }
      ]
    }
  }
]

@batchSize(1)
resource names 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [
  for (each, index) in wanted: {
    parent: endpoints[index]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: map(each.zones, zone => {
        name: replace(zone, '.', '-')
        properties: { privateDnsZoneId: resourceId('Microsoft.Network/privateDnsZones', zone) }
      })
    }
    dependsOn: [zones]
  }
]
