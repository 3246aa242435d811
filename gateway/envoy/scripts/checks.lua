-- How a script refuses a call: whatever checks raises a refusal, and what runs the check answers with it. Fails closed: an
-- error in a check is a refusal, too. REASON is set above.

return {
  -- Raises a refusal.
  stop = function(status, reason, sentence)
    error({status = status, reason = reason, sentence = sentence}, 0)
  end,
  -- Answers with what a check has raised; `sentence` is said of an error of the script's own, which is logged.
  refuse = function(handle, script, raised, sentence)
    if type(raised) ~= "table" then
      handle:logErr(script .. ": " .. tostring(raised))
      raised = {status = "500", reason = "GATEWAY_SCRIPT", sentence = sentence}
    end
    handle:respond({[":status"] = raised.status, [REASON] = raised.reason}, raised.sentence)
  end,
  -- As Envoy decides whether a call is gRPC.
  is_grpc = function(media)
    return media == "application/grpc" or string.sub(media, 1, 17) == "application/grpc+"
  end,
}
