/** What the page asks of the mesh. */

import { createClient } from "@connectrpc/connect";
import { ContractService } from "../gen/weft/operations/v1/contracts_pb";
import { MailService } from "../gen/weft/operations/v1/mails_pb";
import { MeshService } from "../gen/weft/operations/v1/mesh_pb";
import { QueueService } from "../gen/weft/operations/v1/queues_pb";
import { TraceService } from "../gen/weft/operations/v1/traces_pb";
import { transport } from "./session";

export const meshes = createClient(MeshService, transport);
export const queues = createClient(QueueService, transport);
export const traces = createClient(TraceService, transport);
export const contracts = createClient(ContractService, transport);
export const mails = createClient(MailService, transport);
