"""Owns org.freedesktop.systemd1 and knows one unit, which the process in argv[1] is in."""

import sys

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

UNIT = "/org/freedesktop/systemd1/unit/tests_2eservice"


class Manager(dbus.service.Object):
    @dbus.service.method("org.freedesktop.systemd1.Manager", in_signature="u", out_signature="o")
    def GetUnitByPID(self, pid):
        if pid == int(sys.argv[1]):
            return dbus.ObjectPath(UNIT)
        raise dbus.DBusException(
            f"PID {pid} does not belong to any loaded unit.",
            name="org.freedesktop.systemd1.NoUnitForPID",
        )


class Unit(dbus.service.Object):
    @dbus.service.method(dbus.PROPERTIES_IFACE, in_signature="ss", out_signature="v")
    def Get(self, interface, name):
        assert interface == "org.freedesktop.systemd1.Unit"
        return {
            "Id": "tests.service",
            "FragmentPath": "/etc/systemd/system/tests.service",
        }[name]


dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.SessionBus()
name = dbus.service.BusName("org.freedesktop.systemd1", bus, do_not_queue=True)
Manager(bus, "/org/freedesktop/systemd1")
Unit(bus, UNIT)
print("ready", flush=True)
GLib.MainLoop().run()
