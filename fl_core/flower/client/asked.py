"""What a client answers when the server asks for its profile."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from ..messages.fields import Fields
from ..messages.orders import QUERY, RECORD, VERSION
from ..messages.profile import ClientProfile


def register_profile(
    app: ClientApp, describe: Callable[[Context], ClientProfile] | None = None
) -> ClientApp:
    """Lets an app tell the server of its client; without it the client is never planned.

    The app's mods do not see the question: it carries no model, and Flower's mods for differential
    privacy refuse what has none.

    Args:
        app: A `ClientApp`.
        describe: From the client's context to its profile; `node_config.profile_of_node` where
            None, which reads `--node-config`.

    Returns:
        The same app.

    Raises:
        ValueError: If the app is registered already, or is a legacy one (its clients answer
            `get_properties`).

    Example:
        >>> from flwr.clientapp import ClientApp
        >>> app = register_profile(
        ...     ClientApp(), lambda context: ClientProfile(str(context.node_id)))
    """
    from flwr.app import Message

    from ..client.node_config import profile_of_node

    def answer(message: Message, context: Context) -> Message:
        Fields(message.content.config_records.get(RECORD), "a query").version(VERSION)
        profile = (describe or profile_of_node)(context)
        if not isinstance(profile, ClientProfile):
            raise ValueError(f"`describe` must give a ClientProfile, but gave {profile!r:.80}.")
        record = ConfigRecord(dict(profile.to_record()))
        return Message(RecordDict({RECORD: record}), reply_to=message)

    try:
        app.query(QUERY.partition(".")[2])(answer)
    except ValueError as error:
        raise ValueError(
            "`register_profile` must be called once for an app, and not for one with `client_fn`, "
            f"whose clients answer `get_properties`. Flower says: {error}"
        ) from error
    getattr(app, "_registered_funcs", {})[QUERY] = answer  # Flower has put the app's mods around it
    return app
