// The values of one environment, here for the sample. `azd env set NAME VALUE` gives what is read from the environment.
using './main.bicep'

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME')
param location = readEnvironmentVariable('AZURE_LOCATION')
param threads = 80
param authClientId = readEnvironmentVariable('AUTH_CLIENT_ID', '')

// An integration whose address is empty pauses, and says so.
param domainSettings = {
  REGISTRY_URL: readEnvironmentVariable('REGISTRY_URL', '')
  CRM_URL: readEnvironmentVariable('CRM_URL', '')
  CRM_CLIENT_ID: readEnvironmentVariable('CRM_CLIENT_ID', '')
  MAILING_URL: readEnvironmentVariable('MAILING_URL', '')
}

param secrets = {
  CLIENT_FLOW_REF_KEY: readEnvironmentVariable('CLIENT_FLOW_REF_KEY')
  SHOP_SECRET: readEnvironmentVariable('SHOP_SECRET')
  CRM_CLIENT_SECRET: readEnvironmentVariable('CRM_CLIENT_SECRET')
  MAILING_KEY: readEnvironmentVariable('MAILING_KEY')
}
