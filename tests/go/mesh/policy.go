package mesh

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"weft.test/mesh/gen/weft/options/v1"
)

// Policy is what a contract says about one method, as far as a program in another language goes by it.
type Policy struct {
	Public   bool
	Scopes   []string
	Timeout  time.Duration // zero: none
	Attempts int           // in all, the first included
}

// PolicyOf finds the policy of `/package.Service/Method` in the options of the contracts that are linked.
//
// A method's own part replaces the part of its service's defaults; access is one part. False: no contract has it.
func PolicyOf(path string) (Policy, bool) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	method, isMethod := found.(protoreflect.MethodDescriptor)
	if err != nil || !isMethod {
		return Policy{}, false
	}
	own, _ := proto.GetExtension(method.Options(), optionsv1.E_Policy).(*optionsv1.MethodPolicy)
	above, _ := proto.GetExtension(method.Parent().Options(), optionsv1.E_Defaults).(*optionsv1.MethodPolicy)
	access := above
	if own.GetPublic() || len(own.GetScopes()) > 0 {
		access = own
	}
	policy := Policy{Public: access.GetPublic(), Scopes: access.GetScopes(), Attempts: 1}
	timeout := above.GetTimeout()
	if own.GetTimeout() != nil {
		timeout = own.GetTimeout()
	}
	policy.Timeout = timeout.AsDuration()
	retry := above.GetRetry()
	if own.GetRetry() != nil {
		retry = own.GetRetry()
	}
	if most := int(retry.GetMaxAttempts()); most > 1 {
		policy.Attempts = most
	}
	return policy, true
}
