// The function app on Flex Consumption. It goes everywhere as its identity; no setting holds a key.
param location string
param tags object
param token string
param identityName string
param storageName string
param packagesName string
param vaultName string
param insightsName string
param accountName string
param namespaceName string
param database string
param threads int
param domainSettings object
param secretNames array
param authClientId string

var authenticated = !empty(authClientId)
var hostName = '${namespaceName}.servicebus.windows.net'

// Secrets stay in the vault. Without a version the app gets a new one within a day, or when it restarts.
var secretSettings = toObject(secretNames, name => name, name => '@Microsoft.KeyVault(VaultName=${vaultName};SecretName=${toLower(replace(name, '_', '-'))})')

var settings = {
  // The host, and the connections of its triggers.
  AzureWebJobsStorage__accountName: storageName
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identity.properties.clientId
  COSMOS_CONN__accountEndpoint: account.properties.documentEndpoint
  COSMOS_CONN__credential: 'managedidentity'
  COSMOS_CONN__clientId: identity.properties.clientId
  BUS_CONN__fullyQualifiedNamespace: hostName
  BUS_CONN__credential: 'managedidentity'
  BUS_CONN__clientId: identity.properties.clientId
  FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '1048576'
  PYTHON_THREADPOOL_THREAD_COUNT: string(threads)

  // The application's own clients.
  AZURE_CLIENT_ID: identity.properties.clientId
  COSMOS_ENDPOINT: account.properties.documentEndpoint
  DATABASE: database
  BUS_NAMESPACE: hostName
  CLIENT_FLOW_PLATFORM_AUTH: authenticated ? 'true' : 'false'

  // Telemetry. Spans of these libraries would hold addresses, and addresses hold client ids.
  APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
  PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY: 'true'
  OTEL_PYTHON_DISABLED_INSTRUMENTATIONS: 'azure_sdk,requests,urllib,urllib3'
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: identityName
}

resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: storageName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource account 'Microsoft.DocumentDB/databaseAccounts@2024-05-15' existing = {
  name: accountName
}

resource plan 'Microsoft.Web/serverfarms@2023-12-01' = {
  name: 'plan-${token}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: { reserved: true }
}

resource site 'Microsoft.Web/sites@2023-12-01' = {
  name: 'func-${token}'
  location: location
  // azd finds the service `app` of azure.yaml by this tag.
  tags: union(tags, { 'azd-service-name': 'app' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identity.id
    siteConfig: { minTlsVersion: '1.2' }
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${packagesName}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: 2048
        maximumInstanceCount: 40
      }
      runtime: {
        name: 'python'
        version: '3.12'
      }
    }
  }
}

// Nobody publishes with a password.
resource publishing 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2023-12-01' = [for name in ['scm', 'ftp']: {
  parent: site
  name: name
  properties: { allow: false }
}]

// Requests without a token pass, since webhooks come without one: the functions ask for roles, keys or signatures.
resource authentication 'Microsoft.Web/sites/config@2023-12-01' = if (authenticated) {
  parent: site
  name: 'authsettingsV2'
  properties: {
    platform: { enabled: true }
    globalValidation: {
      requireAuthentication: false
      unauthenticatedClientAction: 'AllowAnonymous'
    }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: {
          clientId: authClientId
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
        }
        validation: {
          allowedAudiences: [
            authClientId
            'api://${authClientId}'
          ]
        }
      }
    }
  }
}

// After authentication: an app that trusts its word before it stands there would let anybody in.
resource configured 'Microsoft.Web/sites/config@2023-12-01' = {
  parent: site
  name: 'appsettings'
  properties: union(domainSettings, secretSettings, settings)
  dependsOn: [
    authentication
  ]
}

output url string = 'https://${site.properties.defaultHostName}'
