"""The scenario of clients.test.mjs with grpcio.

Arguments: URL, token file, working directory, name of the file that the agent is to make, longest time for one
step in ms. The generated modules are in PYTHONPATH.
"""

import json
import pathlib
import sys

import grpc
from baton.v1 import common_pb2, event_pb2, event_pb2_grpc, prompt_pb2, prompt_pb2_grpc, session_pb2, session_pb2_grpc
from google.rpc import error_details_pb2, status_pb2

url, token_file, cwd, name, patience = sys.argv[1:]
timeout = int(patience) / 1000
token = pathlib.Path(token_file).read_text().strip()
who = [("authorization", f"Bearer {token}")]
channel = grpc.insecure_channel(url.removeprefix("http://"))
sessions = session_pb2_grpc.SessionServiceStub(channel)
events = event_pb2_grpc.EventServiceStub(channel)
prompts = prompt_pb2_grpc.PromptServiceStub(channel)


def call(method, request):
    return method(request, metadata=who, timeout=timeout)


log = []  # Every event that a watch gave, in order.
epoch, seq = 0, 0
watches = 0


def watch_until(session_id, kind):
    """Follows the session from the cursor until an event is of the kind; then hangs up."""
    global epoch, seq, watches
    watches += 1
    scope = event_pb2.SessionScope(session_id=session_id, log_epoch=epoch, after_seq=seq)
    stream = call(events.Watch, event_pb2.WatchRequest(scopes=[event_pb2.Scope(session=scope)]))
    try:
        for response in stream:
            body = response.WhichOneof("body")
            assert body != "truncated"
            if body == "started":
                epoch = response.started.log_epoch
            for event in response.events.events:
                log.append(event)
                seq = event.seq
                # The rest of the batch is dropped on purpose: the cursor says what was read, and the rest comes again.
                if event.WhichOneof("body") == kind:
                    return getattr(event, kind)
    finally:
        stream.cancel()
    raise AssertionError("the watch ended before what was looked for")


def error_info(error):
    """google.rpc.ErrorInfo of a failed call."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    (detail,) = [one for one in status.details if one.Is(info.DESCRIPTOR)]
    detail.Unpack(info)
    return info


# Created once, though asked twice.
create = session_pb2.CreateSessionRequest(
    request_id=f"create-{name}",
    input=f"run: touch {name}",
    cwd=cwd,
    harness="demo",
    permission_mode=common_pb2.PERMISSION_MODE_ASK,
)
session = call(sessions.CreateSession, create).session
assert call(sessions.CreateSession, create).session.id == session.id

# Watched until it asks.
prompt = watch_until(session.id, "prompt_requested").prompt
assert json.loads(prompt.input.text)["command"] == f"touch {name}"


# Answered, once.
def answer(allow):
    decision = prompt_pb2.Decision(allow=allow)
    return call(prompts.AnswerPrompt, prompt_pb2.AnswerPromptRequest(prompt_id=prompt.id, decision=decision))


assert answer(True).prompt.state == prompt_pb2.PROMPT_STATE_ANSWERED
try:
    answer(False)
    raise AssertionError("a second answer was taken")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    info = error_info(error)
assert info.metadata["winner"] and info.metadata["at"]

# Goes on behind the cursor.
watch_until(session.id, "turn_ended")

# Listed.
running = session_pb2.ListSessionsRequest(lifecycles=[session_pb2.LIFECYCLE_RUNNING])
assert [one.id for one in call(sessions.ListSessions, running).sessions].count(session.id) == 1
asked = call(prompts.ListPrompts, prompt_pb2.ListPromptsRequest(session_id=session.id)).prompts
assert [(one.id, one.state) for one in asked] == [(prompt.id, prompt_pb2.PROMPT_STATE_ANSWERED)]

# Ended, and followed to the last event.
call(sessions.EndSession, session_pb2.EndSessionRequest(request_id=f"end-{name}", session_id=session.id))
end = watch_until(session.id, "ended").end

# The watches together are the log: from 1, each once, in order, the same events.
whole, page_token = [], ""
while True:
    page = call(events.ListEvents, event_pb2.ListEventsRequest(session_id=session.id, page_size=3, page_token=page_token))
    whole += page.events
    page_token = page.next_page_token
    if not page_token:
        break
assert [event.seq for event in log] == list(range(1, len(log) + 1))
assert log == whole[: len(log)]

print(
    f"created once, watched, asked {prompt.tool}, allowed, second answer {info.reason} from {info.domain} "
    f"({info.metadata['answer']}, {info.metadata['effect']}), listed, "
    f"ended {session_pb2.EndReason.Name(end.reason).removeprefix('END_REASON_')}, "
    f"followed by {watches} watches: no gap, no duplicate"
)
