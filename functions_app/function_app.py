"""What the Azure Functions worker indexes: the functions of the domain that the settings name.

Importing it reads no setting but `CLIENT_FLOW_DOMAIN` and `CLIENT_FLOW_PLATFORM_AUTH` and does no I/O; everything opens
on the first call.
"""

from functions_app import Settings, build_app, lazily, load_domain

_settings = Settings()
app = build_app(load_domain(_settings.domain), lazily(_settings), platform_auth=_settings.platform_auth)
