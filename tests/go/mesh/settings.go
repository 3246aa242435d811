// Package mesh is what a program in Go needs to be part of the mesh: as a caller, a bootstrap file and little else; as
// an instance of a service, a place in the registry and the duties that come with it.
package mesh

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// The same rule as the registry's own: an entry under another name is refused by every control plane.
var nameRule = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// Settings are the variables that every instance of the mesh is started with, whatever it is written in.
type Settings struct {
	Instance     string   // WEFT_INSTANCE: `shipping-1`
	Listen       string   // WEFT_LISTEN: host:port, the host an IP address that clients can reach
	Etcd         []string // WEFT_ETCD: host:port of each member
	EtcdUser     string   // WEFT_ETCD_USER, used where there is a password
	EtcdPassword string   // file etcd.password of WEFT_SECRETS; empty: etcd asks for nobody
	Collector    string   // WEFT_OTLP_ENDPOINT: http://host:port; empty: spans are not exported
}

// ReadSettings reads the environment. The error names the variable that is wrong.
func ReadSettings() (Settings, error) {
	settings := Settings{
		Instance:  os.Getenv("WEFT_INSTANCE"),
		Listen:    os.Getenv("WEFT_LISTEN"),
		EtcdUser:  "weft",
		Collector: os.Getenv("WEFT_OTLP_ENDPOINT"),
	}
	if !nameRule.MatchString(settings.Instance) {
		return settings, fmt.Errorf("WEFT_INSTANCE: %q is not an instance name", settings.Instance)
	}
	host, _, err := net.SplitHostPort(settings.Listen)
	if err != nil || net.ParseIP(host) == nil {
		return settings, fmt.Errorf("WEFT_LISTEN: %q is not an IP address with a port", settings.Listen)
	}
	for _, member := range strings.Split(os.Getenv("WEFT_ETCD"), ",") {
		if member = strings.TrimSpace(member); member != "" {
			settings.Etcd = append(settings.Etcd, member)
		}
	}
	if len(settings.Etcd) == 0 {
		return settings, fmt.Errorf("WEFT_ETCD: is not set")
	}
	if user := os.Getenv("WEFT_ETCD_USER"); user != "" {
		settings.EtcdUser = user
	}
	return settings, settings.readPassword(os.Getenv("WEFT_SECRETS"))
}

func (settings *Settings) readPassword(secrets string) error {
	if secrets == "" {
		return nil
	}
	path := filepath.Join(secrets, "etcd.password")
	content, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("WEFT_SECRETS: %s cannot be read", path)
	}
	settings.EtcdPassword = strings.TrimSpace(string(content))
	return nil
}
