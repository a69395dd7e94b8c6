// What somebody has to look at; docs/runbook.md says what to do about each, by name.
// Function names and log messages in the queries are the app's own: a test finds each in the code.
param location string
param tags object
param workspaceId string
param queueServiceId string
@description('Empty: alerts are shown, and nobody is told.')
param email string
@description('0: no budget.')
param monthlyBudget int
@description('Empty: no budget.')
param budgetStart string

var alerts = [
  {
    name: 'failures'
    description: 'More than one call in twenty fails, and more than ten do.'
    query: 'AppRequests | where Name in ("openai_api", "azure_openai_api") | summarize Total = count(), Failed = countif(toint(ResultCode) >= 500) | where Failed > 10 and Failed * 20 > Total'
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT15M'
    severity: 1
  }
  {
    name: 'recording'
    description: 'Records are not stored: the recorder fails, or a sink is down and its outbox fills.'
    query: 'union (AppRequests | where Name in ("record_queue", "record_hub") and Success == false), (AppTraces | where Message contains "outbox waits" or Message contains "events neither sent nor spilled" or Message contains "call not recorded as closed")'
    operator: 'GreaterThan'
    threshold: 5
    window: 'PT15M'
    severity: 1
  }
  {
    name: 'rollup-silent'
    description: 'Usage has not been rolled up for half an hour: reports are old, and incomplete calls go unnoticed.'
    query: 'AppRequests | where Name == "roll_up_usage" and Success == true'
    operator: 'LessThan'
    threshold: 1
    window: 'PT30M'
    severity: 2
  }
  {
    name: 'completeness'
    description: 'Calls were opened and never closed, or events were set aside as unreadable.'
    query: 'AppTraces | where Message contains "call incomplete" or Message contains "event quarantined"'
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT1H'
    severity: 2
  }
  {
    name: 'budgets'
    description: 'A client has come to a threshold of its budget.'
    query: 'AppTraces | where Message contains "budget threshold reached"'
    operator: 'GreaterThan'
    threshold: 0
    window: 'PT15M'
    severity: 3
  }
]

resource told 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(email)) {
  name: 'ag-tollgate'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'tollgate'
    emailReceivers: [{ name: 'operations', emailAddress: email, useCommonAlertSchema: true }]
  }
}

resource logAlerts 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for alert in alerts: {
    name: 'tollgate-${alert.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: 'Tollgate: ${alert.name}'
      description: alert.description
      severity: alert.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: 'PT5M'
      windowSize: alert.window
      skipQueryValidation: true // the tables appear with the first call
      autoMitigate: true
      criteria: {
        allOf: [
          {
            query: alert.query
            timeAggregation: 'Count'
            operator: alert.operator
            threshold: alert.threshold
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      actions: { actionGroups: empty(email) ? [] : [told.id] }
    }
  }
]

// The queue between gateway and recorder, with its poison queue. The platform counts it once an hour.
resource backlog 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'tollgate-backlog'
  location: 'global'
  tags: tags
  properties: {
    description: 'More than a thousand records wait in the storage queue.'
    severity: 2
    enabled: true
    scopes: [queueServiceId]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'messages'
          metricNamespace: 'Microsoft.Storage/storageAccounts/queueServices'
          metricName: 'QueueMessageCount'
          operator: 'GreaterThan'
          threshold: 1000
          timeAggregation: 'Average'
        }
      ]
    }
    actions: empty(email) ? [] : [{ actionGroupId: told.id }]
  }
}

resource budget 'Microsoft.Consumption/budgets@2024-08-01' = if (monthlyBudget > 0 && !empty(budgetStart) && !empty(email)) {
  name: 'tollgate'
  properties: {
    category: 'Cost'
    amount: monthlyBudget
    timeGrain: 'Monthly'
    timePeriod: { startDate: budgetStart }
    notifications: {
      forecast: {
        enabled: true
        operator: 'GreaterThan'
        threshold: 100
        thresholdType: 'Forecasted'
        contactEmails: [email]
      }
      actual: {
        enabled: true
        operator: 'GreaterThan'
        threshold: 80
        thresholdType: 'Actual'
        contactEmails: [email]
      }
    }
  }
}
