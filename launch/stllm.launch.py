"""ROS 2: ros2 launch stllm stllm.launch.py image:=/camera/color/image_raw map_points:=/map/points"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

ARGUMENTS = [
    ("name", "stllm", "node name"),
    ("model", "nano", "model folder, or the name of a built-in model"),
    ("image", "/camera/color/image_raw", "image topic; image/compressed goes with it"),
    ("camera_info", "/camera/color/camera_info", "camera_info topic"),
    ("map_points", "/map/points", "PointCloud2 of the map"),
    ("fixed_frame", "map", "frame that poses and the map are kept in"),
    ("use_sim_time", "false", "take the time from /clock"),
    ("rviz", "false", "open rviz2 with the node's displays"),
]


def generate_launch_description():
    share = FindPackageShare("stllm")
    value = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, default, text in ARGUMENTS
    ]
    arguments.append(
        DeclareLaunchArgument(
            "params",
            default_value=PathJoinSubstitution([share, "stllm.yaml"]),
            description="parameter file",
        )
    )
    node = Node(
        package="stllm",
        executable="stllm",
        name=value["name"],
        output="screen",
        arguments=["node", "--transport", "ros2", "--model", value["model"]],
        parameters=[
            LaunchConfiguration("params"),
            {"fixed_frame": value["fixed_frame"], "use_sim_time": value["use_sim_time"]},
        ],
        remappings=[
            ("~/image", value["image"]),
            ("~/image/compressed", [value["image"], "/compressed"]),
            ("~/camera_info", value["camera_info"]),
            ("~/map_points", value["map_points"]),
        ],
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([share, "rviz", "stllm_ros2.rviz"])],
        condition=IfCondition(value["rviz"]),
    )
    return LaunchDescription([*arguments, node, rviz])
