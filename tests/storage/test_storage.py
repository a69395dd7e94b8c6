"""The Storage account by its name, with the app's identity. No token is fetched here: only Azure has one to give."""

from shared.settings import read_settings
from shared.storage.account import connect


async def test_the_account_by_name_is_reached_at_its_three_services_with_a_token() -> None:
    account = connect(read_settings({"AzureWebJobsStorage__accountName": "ours"}))
    try:
        urls = [account.blobs.url, account.queues.url, account.tables.url]
        assert [url.rstrip("/") for url in urls] == [
            f"https://ours.{service}.core.windows.net" for service in ("blob", "queue", "table")
        ]
        assert len({id(each.credential) for each in (account.blobs, account.queues, account.tables)}) == 1
        assert hasattr(account.blobs.credential, "get_token")
    finally:
        await account.close()


async def test_a_connection_string_goes_before_the_name() -> None:
    connection = "DefaultEndpointsProtocol=https;AccountName=mine;AccountKey=YQ==;EndpointSuffix=core.windows.net"
    account = connect(read_settings({"AzureWebJobsStorage": connection, "AzureWebJobsStorage__accountName": "ours"}))
    try:
        assert account.blobs.account_name == "mine"
    finally:
        await account.close()
