// Log Analytics, and Application Insights on top of it. Neither is the account of anything: they sample, the ledger does not.
param location string
param tags object
param token string

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: 'log-tollgate-${token}'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 30
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-tollgate-${token}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true // telemetry comes with the app's identity only
  }
}

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(insights.id, 'tollgate')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Tollgate'
    category: 'workbook'
    sourceId: insights.id
    serializedData: loadTextContent('../queries/workbook.json')
  }
}

output workspaceId string = workspace.id
output insightsName string = insights.name
output insightsConnectionString string = insights.properties.ConnectionString
