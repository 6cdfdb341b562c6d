// Everything that client-flow runs on, in one resource group. domain.bicep is written by `client-flow provision --bicep`.
targetScope = 'subscription'

@description('Name of the environment; part of the names of what is created')
@minLength(1)
@maxLength(40)
param environmentName string

@description('Region')
param location string

@description('Threads of one worker process: what `client-flow bundle` prints')
@minValue(32)
param threads int

@description('Settings that the domain asks for by name, except secrets')
param domainSettings object = {}

@description('Secrets by the name of their setting; CLIENT_FLOW_REF_KEY must be among them')
@secure()
param secrets object

@description('Client id of the app registration with the roles read, audit and operate; empty to go by function keys')
param authClientId string = ''

var tags = { 'azd-env-name': environmentName }
var token = uniqueString(subscription().id, environmentName, location)
var secretNames = objectKeys(secrets)

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module foundation 'foundation.bicep' = {
  name: 'foundation'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    secrets: secrets
  }
}

module stores 'stores.bicep' = {
  name: 'stores'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
  }
}

module domain 'domain.bicep' = {
  name: 'domain'
  scope: group
  params: {
    accountName: stores.outputs.accountName
    namespaceName: stores.outputs.namespaceName
  }
}

module roles 'roles.bicep' = {
  name: 'roles'
  scope: group
  params: {
    principalId: foundation.outputs.principalId
    storageName: foundation.outputs.storageName
    vaultName: foundation.outputs.vaultName
    insightsName: foundation.outputs.insightsName
    accountName: stores.outputs.accountName
    namespaceName: stores.outputs.namespaceName
    database: domain.outputs.database
    topic: domain.outputs.topics[0]
    subscriptions: domain.outputs.subscriptions
    queues: domain.outputs.queues
  }
}

module app 'app.bicep' = {
  name: 'app'
  scope: group
  params: {
    location: location
    tags: tags
    token: token
    identityName: foundation.outputs.identityName
    storageName: foundation.outputs.storageName
    packagesName: foundation.outputs.packagesName
    vaultName: foundation.outputs.vaultName
    insightsName: foundation.outputs.insightsName
    accountName: stores.outputs.accountName
    namespaceName: stores.outputs.namespaceName
    database: domain.outputs.database
    threads: threads
    domainSettings: domainSettings
    secretNames: secretNames
    authClientId: authClientId
  }
  dependsOn: [
    roles
  ]
}

output AZURE_RESOURCE_GROUP string = group.name
output APP_URL string = app.outputs.url
output COSMOS_ENDPOINT string = stores.outputs.endpoint
output BUS_NAMESPACE string = stores.outputs.hostName
output DATABASE string = domain.outputs.database
