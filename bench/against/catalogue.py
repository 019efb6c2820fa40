"""Every peer that the bench knows, in the order of its tables."""

from __future__ import annotations

from against.bare.peer import PEER as BARE
from against.bentoml.peer import PEER as BENTOML
from against.fastapi.peer import PEER as FASTAPI
from against.flask.peer import PEER as FLASK
from against.grpc_aio.peer import PEER as GRPC_AIO
from against.kserve.peer import PEER as KSERVE
from against.litserve.peer import PEER as LITSERVE
from against.mlserver.peer import PEER as MLSERVER
from against.mosec.peer import PEER as MOSEC
from against.ray.peer import PEER as RAY
from against.torchserve.peer import PEER as TORCHSERVE
from against.towline.peer import PEER as TOWLINE
from against.towline_native.peer import PEER as TOWLINE_NATIVE
from against.triton.peer import PEER as TRITON

FLOORS = (BARE, GRPC_AIO)
PEERS = (BARE, GRPC_AIO, TOWLINE, TOWLINE_NATIVE, FLASK, FASTAPI, LITSERVE, BENTOML, MLSERVER, TORCHSERVE, RAY, KSERVE, MOSEC, TRITON)
