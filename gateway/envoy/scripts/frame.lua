-- Refuses a call whose request is not one whole message in one gRPC frame, or whose headers no gRPC server understands.
-- Instances answer the former each in its own way, and take the first of two; some of the latter they answer by closing
-- the stream, which looks like a fault of theirs: retried, and held against them.
-- What came as JSON is in a frame that the transcoder has made.
--
-- checks is the script above; MOST is set above.

local ENCODINGS = {identity = true, gzip = true, deflate = true}
local UNITS = {[72] = true, [77] = true, [83] = true, [109] = true, [117] = true, [110] = true}   -- H M S m u n

local stop, is_grpc = checks.stop, checks.is_grpc

-- At most eight digits and a unit. Byte by byte, because LuaJIT does not compile string patterns.
local function is_timeout(text)
  if #text < 2 or #text > 9 or not UNITS[string.byte(text, #text)] then return false end
  for index = 1, #text - 1 do
    local digit = string.byte(text, index)
    if digit < 48 or digit > 57 then return false end
  end
  return true
end

local function examine_frame(buffered, most, packed)
  local length = buffered ~= nil and buffered:length() or 0
  if length > most then stop("413", "REQUEST_TOO_LARGE", "The request is too large") end
  if length == 0 then stop("400", "GRPC_FRAME", "The request holds no message") end
  if length < 5 then stop("400", "GRPC_FRAME", "The request ends inside the head of its frame") end
  local flags, a, b, c, d = string.byte(buffered:getBytes(0, 5), 1, 5)
  if flags > 1 then stop("400", "GRPC_FRAME", "The frame has flags that no gRPC request has") end
  if flags == 1 and not packed then
    stop("400", "GRPC_FRAME", "The frame is marked as compressed, and grpc-encoding does not say how")
  end
  local whole = 5 + ((a * 256 + b) * 256 + c) * 256 + d
  if whole > length then stop("400", "GRPC_FRAME", "The request ends before its message does") end
  if whole < length then stop("400", "GRPC_FRAME", "The request goes on after its message; one is expected") end
end

-- Raises a refusal: status, reason and sentence. Headers cannot be read any more after this.
local function check(handle, headers)
  local most = handle:metadata():get(MOST)
  if most == nil or headers:get("x-envoy-original-method") ~= nil then return end
  if not is_grpc(headers:get("content-type") or "") then
    stop("415", "GRPC_MEDIA_TYPE", "This path takes gRPC and gRPC-web; JSON has paths of its own")
  end
  if headers:get("te") ~= "trailers" then stop("415", "GRPC_TE", "A gRPC request says `te: trailers`") end
  local timeout, encoding = headers:get("grpc-timeout"), headers:get("grpc-encoding")
  if timeout ~= nil and not is_timeout(timeout) then
    stop("400", "GRPC_TIMEOUT", "grpc-timeout must be up to eight digits and one of H, M, S, m, u, n")
  end
  if encoding ~= nil and not ENCODINGS[encoding] then
    stop("501", "GRPC_ENCODING", "grpc-encoding must be identity, gzip or deflate")
  end
  examine_frame(handle:body(), most, encoding ~= nil and encoding ~= "identity")
end

return {check = check}
