// vcsim, the simulator of VMware's govmomi, behind TLS; and govmomi's own client as the outside view.
//
// Usage: vcsim HOSTS VMS_PER_HOST. Prints one line: {"url", "fingerprint"}. Then a command a line on standard input, an
// answer a line: list | create NAME | start NAME | stop NAME | remove NAME | rename NAME NEW | move NAME |
// moved NAME | delay METHOD MS | logout | category NAME | tag CATEGORY NAME | untag CATEGORY NAME |
// attach VM CATEGORY TAG | detach VM CATEGORY TAG | attribute VM NAME VALUE | tagging FAULT | sessions | expire | calls. "delay": calls of a method are served so much later. "moved" moves it and posts the event that a vCenter has of it, which vcsim 0.24 leaves out.
// A "-" for HOSTS is one ESXi host. See tagging.go for the last five.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/ioutil"
	"log"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/event"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

type vm struct {
	Id    string `json:"id"`
	Name  string `json:"name"`
	Power string `json:"power"`
	Host  string `json:"host"`
	Uuid  string `json:"uuid"`
}

var ctx = context.Background()

func main() {
	log.SetOutput(ioutil.Discard)
	model := simulator.VPX()
	model.Cluster = 0
	if os.Args[1] == "-" {
		model = simulator.ESX()
	} else {
		model.Host, _ = strconv.Atoi(os.Args[1])
	}
	model.Machine, _ = strconv.Atoi(os.Args[2])
	if err := model.Create(); err != nil {
		panic(err)
	}
	model.Service.TLS = new(tls.Config)
	model.Service.Listen = &url.URL{User: url.UserPassword("operator", "secret")}
	model.Service.RegisterEndpoints = true
	server := model.Service.NewServer()
	door := openTagging(server, model.Service)
	sum := sha256.Sum256(server.Certificate().Raw)
	reply(map[string]string{"url": server.URL.Host, "fingerprint": hex.EncodeToString(sum[:])})
	client, err := govmomi.NewClient(ctx, server.URL, true)
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if words[0] == "delay" {
			ms, _ := strconv.Atoi(words[2])
			model.DelayConfig.MethodDelay = map[string]int{words[1]: ms}
			reply("ok")
			continue
		}
		answer, err := door.act(client, words)
		if answer == nil && err == nil {
			answer, err = act(client, words)
		}
		if err != nil {
			answer = map[string]string{"error": err.Error()}
		}
		reply(answer)
	}
}

func reply(value interface{}) {
	text, _ := json.Marshal(value)
	fmt.Println(string(text))
}

func act(client *govmomi.Client, words []string) (interface{}, error) {
	finder := find.NewFinder(client.Client)
	dc, err := finder.DefaultDatacenter(ctx)
	if err != nil {
		return nil, err
	}
	finder.SetDatacenter(dc)
	switch words[0] {
	case "list":
		return list(client)
	case "logout":
		return "ok", endOtherSessions(client)
	case "create":
		return "ok", create(client, finder, dc, words[1])
	}
	machine, err := finder.VirtualMachine(ctx, words[1])
	if err != nil {
		return nil, err
	}
	var task *object.Task
	switch words[0] {
	case "start":
		task, err = machine.PowerOn(ctx)
	case "stop":
		task, err = machine.PowerOff(ctx)
	case "remove":
		task, err = machine.Destroy(ctx)
	case "rename":
		task, err = machine.Rename(ctx, words[2])
	case "move":
		task, err = move(finder, machine)
	case "attribute":
		return "ok", setAttribute(client, machine, words[2], strings.Join(words[3:], " "))
	case "moved":
		return "ok", moved(client, finder, machine, words[1])
	}
	if err == nil && task != nil {
		err = task.Wait(ctx)
	}
	return "ok", err
}

func list(client *govmomi.Client) ([]vm, error) {
	all, err := view.NewManager(client.Client).CreateContainerView(ctx, client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		return nil, err
	}
	defer all.Destroy(ctx)
	var found []mo.VirtualMachine
	err = all.Retrieve(ctx, []string{"VirtualMachine"}, []string{"name", "runtime.powerState", "runtime.host", "config.uuid"}, &found)
	vms := []vm{}
	for _, one := range found {
		vms = append(vms, vm{one.Self.Value, one.Name, string(one.Runtime.PowerState), one.Runtime.Host.Value, one.Config.Uuid})
	}
	return vms, err
}

func create(client *govmomi.Client, finder *find.Finder, dc *object.Datacenter, name string) error {
	folders, err := dc.Folders(ctx)
	if err != nil {
		return err
	}
	pools, err := finder.ResourcePoolList(ctx, "*/Resources")
	if err != nil {
		return err
	}
	hosts, err := finder.HostSystemList(ctx, "*")
	if err != nil {
		return err
	}
	spec := types.VirtualMachineConfigSpec{Name: name, GuestId: "otherGuest", NumCPUs: 1, MemoryMB: 64,
		Files: &types.VirtualMachineFileInfo{VmPathName: "[LocalDS_0]"}}
	task, err := folders.VmFolder.CreateVM(ctx, spec, pools[0], hosts[0])
	if err != nil {
		return err
	}
	return task.Wait(ctx)
}

func move(finder *find.Finder, machine *object.VirtualMachine) (*object.Task, error) {
	hosts, err := finder.HostSystemList(ctx, "*")
	if err != nil {
		return nil, err
	}
	current, err := machine.HostSystem(ctx)
	if err != nil {
		return nil, err
	}
	for _, host := range hosts {
		if host.Reference() != current.Reference() {
			ref := host.Reference()
			pool, err := host.ResourcePool(ctx)
			if err != nil {
				return nil, err
			}
			poolRef := pool.Reference()
			return machine.Relocate(ctx, types.VirtualMachineRelocateSpec{Host: &ref, Pool: &poolRef}, types.VirtualMachineMovePriorityDefaultPriority)
		}
	}
	return nil, fmt.Errorf("there is only one host")
}

// vcsim 0.24 adds the value to those that are there, and tells nobody who watches.
func setAttribute(client *govmomi.Client, machine *object.VirtualMachine, name string, value string) error {
	manager, err := object.GetCustomFieldsManager(client.Client)
	if err != nil {
		return err
	}
	key, err := manager.FindKey(ctx, name)
	if err != nil {
		field, err := manager.Add(ctx, name, "VirtualMachine", nil, nil)
		if err != nil {
			return err
		}
		key = field.Key
	}
	return manager.Set(ctx, machine.Reference(), key, value)
}

func moved(client *govmomi.Client, finder *find.Finder, machine *object.VirtualMachine, name string) error {
	source, err := machine.HostSystem(ctx)
	if err != nil {
		return err
	}
	task, err := move(finder, machine)
	if err != nil {
		return err
	}
	if err := task.Wait(ctx); err != nil {
		return err
	}
	target, err := machine.HostSystem(ctx)
	if err != nil {
		return err
	}
	// Of the kinds of moves this is the one whose message vcsim can format.
	posted := &types.DrsVmMigratedEvent{VmMigratedEvent: types.VmMigratedEvent{
		VmEvent: types.VmEvent{Event: types.Event{
			Vm:   &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: name}, Vm: machine.Reference()},
			Host: &types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: "to"}, Host: target.Reference()},
		}},
		SourceHost: types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: "from"}, Host: source.Reference()},
	}}
	return event.NewManager(client.Client).PostEvent(ctx, posted)
}

// endOtherSessions is what an expired session looks like to its client.
func endOtherSessions(client *govmomi.Client) error {
	manager := session.NewManager(client.Client)
	own, err := manager.UserSession(ctx)
	if err != nil {
		return err
	}
	var found mo.SessionManager
	if err := client.RetrieveOne(ctx, *client.ServiceContent.SessionManager, []string{"sessionList"}, &found); err != nil {
		return err
	}
	for _, one := range found.SessionList {
		if one.Key != own.Key {
			if err := manager.TerminateSession(ctx, []string{one.Key}); err != nil {
				return err
			}
		}
	}
	return nil
}
